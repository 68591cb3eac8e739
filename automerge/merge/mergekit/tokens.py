"""mergekit's tokenizer and chat_template settings as a recipe's: tokenizer, vocabulary rules, template.

mergekit shrinks a padded embedding to the vocabulary; here it stays padded (merge/vocabulary/rows.py).
"""

from collections import Counter

from jinja2 import Environment, TemplateSyntaxError

from automerge.errors import ConfigError
from automerge.merge.mergekit import schema as mergekit
from automerge.merge.mergekit.cast import BASE, Cast
from automerge.merge.mergekit.schema import MergekitConfig, ModelName
from automerge.merge.models import Models
from automerge.merge.vocabulary.tokenizers import read_template
from automerge.recipe import UNION, TokenRule, Vocabulary

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THEIR_TEMPLATES = ("alpaca", "exaone", "llama3", "mistral")  # by name only in mergekit


def tokenizer_of(config: MergekitConfig, cast: Cast, where: str) -> str:
    """`base`, `union`, or the name of the model whose tokenizer the merge takes."""
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    if not isinstance(source, ModelName):
        return source or "base"
    name = cast.name_of(source)
    if name is None:
        hint = f"Name base, {UNION}, or one of: {', '.join(str(known) for known in cast.names)}."
        raise ConfigError(f"the tokenizer's source, {source}, is not among the models", where=where, hint=hint)
    return name


def vocabulary_of(config: MergekitConfig, cast: Cast, models: Models, where: str) -> Vocabulary | None:
    """The rules for single tokens, and the padding; None where there are none. Raises ConfigError for a rule without a
    source, or of a model that is not merged."""
    if config.tokenizer is None or not (config.tokenizer.tokens or config.tokenizer.pad_to_multiple_of):
        return None
    rules = {
        token: _rule(token, rule, cast, models, f"{where}: tokenizer.tokens.{token}")
        for token, rule in config.tokenizer.tokens.items()
    }
    return Vocabulary(rules, config.tokenizer.pad_to_multiple_of or 0)


def _rule(token: str, rule: mergekit.TokenRule, cast: Cast, models: Models, where: str) -> TokenRule:
    source = rule.source
    if source is None:
        raise ConfigError("a rule without a source is not supported", where=where, hint="Name the model of its row.")
    if isinstance(source, mergekit.Zeros):
        return TokenRule(None, force=rule.force)
    model = source.model if isinstance(source, mergekit.ModelToken) else source
    name = cast.name_of(model)
    if name is None:
        hint = f"Name one of: {', '.join(str(known) for known in cast.names)}."
        raise ConfigError(f"{model} is not among the models", where=where, hint=hint)
    name = models.base_ref.name if name == BASE else name
    return TokenRule(name, source.row if isinstance(source, mergekit.ModelToken) else "", rule.force)


def chat_template_of(config: MergekitConfig, cast: Cast, models: Models, where: str) -> str:
    """The template's text, "" for the tokenizer's own."""
    text = config.chat_template
    if not text:
        return ""
    if text == "auto":
        return _most_common(_voters(config, cast), models, where)
    if text == "chatml":
        return CHATML
    if text in THEIR_TEMPLATES:
        hint = "Write the template's text, or name in tokenizer.source a model that has it."
        raise ConfigError(f"chat_template: mergekit's own {text!r} is not known here", where=where, hint=hint)
    if "{" not in text:
        hint = "Known names: auto, chatml."
        raise ConfigError(f"chat_template: neither a known name nor a Jinja template: {text!r}", where=where, hint=hint)
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except TemplateSyntaxError as error:
        if not (error.message or "").startswith("Encountered unknown tag"):  # transformers has some of its own
            raise ConfigError(f"chat_template: not a Jinja template: {error.message}", where=where) from None
    return text


def _voters(config: MergekitConfig, cast: Cast) -> list[str]:
    """The models that the file names: a base_model that only lends is one, too."""
    given = [model for model in (config.base_model, *(part.base_model for part in config.slices or ())) if model]
    lends = any(cast.name_of(model) is None and cast.locators_of(model) == (cast.base,) for model in given)
    return [*(["base"] if cast.theta or lends else []), *cast.sources]


def _most_common(names: list[str], models: Models, where: str) -> str:
    """White space at the ends tells no templates apart, as in mergekit."""
    found = (read_template(models.folder_of(name)).strip() for name in names)
    counted = Counter(text for text in found if text)
    if not counted:
        raise ConfigError("chat_template: auto, but no model has a template", where=where, hint="Write its text.")
    (first, most), *others = counted.most_common(2)
    if others and others[0][1] == most:
        hint = "Write the text, or name in tokenizer.source the model that has it, and leave chat_template out."
        raise ConfigError("chat_template: auto, but no template is the most common one", where=where, hint=hint)
    return first
