"""What tokens cost, by a table of the user's."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekit.cloud.answers import KeptCloud
from edgekit.cloud.client import Cloud
from edgekit.cloud.request import Price
from edgekit.errors import EdgekitError
from edgekit.workflows.source import AnyPath
from edgekit.yaml_document import read_yaml


class PriceLine(BaseModel):
    """One line of a price table, US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", strict=True)
    prompt: float = Field(ge=0, lt=1e6, allow_inf_nan=False)
    completion: float = Field(ge=0, lt=1e6, allow_inf_nan=False)

    def price(self) -> Price:
        """The line as the runtime takes it."""
        return Price(self.prompt, self.completion)


def price_for(prices: AnyPath | None, cloud: Cloud | None) -> Price | None:
    """What a token of ``cloud`` costs by the table ``prices``; None without one.

    Raises :class:`EdgekitError` where the table would do nothing: no bill is made of what costs nothing.
    """
    if prices is None:
        return None
    if not isinstance(cloud, KeptCloud):
        name = "none" if cloud is None else cloud.name
        raise EdgekitError(
            f"nothing to pay: cloud {name}. It costs nothing, so prices would do nothing. Leave them out."
        )
    return read_price(Path(prices), cloud.model)


def read_price(path: Path, model: str) -> Price:
    """The price of ``model`` in a YAML table of MODEL: {prompt: USD, completion: USD}, both a million tokens.

    Raises :class:`EdgekitError` if the file or the model's line is not there or makes no sense.
    """
    try:
        table = read_yaml(path)
    except (OSError, ValueError) as error:
        raise EdgekitError(f"cannot read prices: {path}. {' '.join(str(error).split())[:120]}. Give YAML.") from None
    line = table.get(model) if isinstance(table, dict) else None
    try:
        return PriceLine.model_validate(line).price()
    except ValidationError:
        how = f"Write {model}: {{prompt: USD, completion: USD}}, for a million tokens each"
        raise EdgekitError(f"no price: {model} in {path}. It has no such line. {how}.") from None
