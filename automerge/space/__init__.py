"""Search spaces: the bounds of a YAML file → Optuna distributions → recipes. It knows no scores and no engine."""
