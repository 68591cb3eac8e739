"""Gates and verdicts: what may be claimed from paired item scores. It runs no model and reads no study."""
