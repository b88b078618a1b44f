"""A number for every parameter, in the form it is known in: one for all, one for each leaf, or one for each parameter."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from limjax.memory._blocks import Blocks


class Summable(abc.ABC):
    """Numbers for the parameters of some leaves that the ledger can add up: a `Field`, or `Only` some leaves of one.

    Attributes:
        value: the numbers, as the kind says.
    """

    value: Any

    def __init__(self, value: Any):
        self.value = value

    def __init_subclass__(cls):
        key = jax.tree_util.GetAttrKey("value")
        jax.tree_util.register_pytree_with_keys(
            cls, lambda field: (((key, field.value),), None), lambda _, children: _of_children(cls, children)
        )

    def __eq__(self, other: object) -> Any:
        return type(self) is type(other) and eqx.tree_equal(self, other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # arrays have none

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    @abc.abstractmethod
    def blocks(self, layout: Blocks) -> list[Float[Array, "..."]]:
        """The numbers in a form that broadcasts against the blocks of a layout."""


class Field(Summable):
    """Numbers for the parameters of some leaves: `Uniform`, `PerLeaf` or `PerParameter`.

    Barriers, the work to move them and what a step adds to the ledger are fields; who reads one need not ask which.
    """

    def map(self, function: Callable[..., Any], *others: "Field") -> "Field":
        """A function of this field, and of others of its kind, number by number."""
        return type(self)(function(self.value, *(other.value for other in others)))

    def joined(self, is_true: Bool[Array, "leaves"]) -> Bool[Array, "leaves"]:
        """Truth values of the leaves; where one number is of several of them, whether it is true of any."""
        return is_true

    @abc.abstractmethod
    def of_leaves(self, is_true: Bool[Array, "leaves"], layout: Blocks) -> "Field":
        """Truth values of the leaves, `joined`, as a field of this kind."""

    @abc.abstractmethod
    def like(self, given: Any, scope: str, layout: Blocks, in_blocks: bool) -> "Field":
        """What a barrier policy returned, as a field of this kind. One number for all is right in every scope.

        Args:
            given: its barrier.
            scope: the form it has, `AbstractBarrier.scope`.
            layout: of the parameters.
            in_blocks: whether the policy was shown blocks in place of leaves.

        Returns:
            The field, in the dtype and shape of this one.

        Raises:
            ValueError: for another form than that of its scope.
        """

    @abc.abstractmethod
    def mean(self, sizes: list[int] | None) -> tuple[Float[Array, ""], int | None]:
        """Mean over the parameters, and how many there are where that is known.

        Args:
            sizes: number of parameters of each leaf, or None where nobody knows; then every leaf counts alike.

        Returns:
            `(mean, count)`.
        """


def _of_children(cls: type[Summable], children: Iterable[Any]) -> Any:
    field = object.__new__(cls)  # whatever a transformation puts in place of the numbers
    (field.value,) = children
    return field


class Uniform(Field):
    """One number for all parameters, of shape ()."""

    def blocks(self, layout: Blocks) -> list[Float[Array, "..."]]:
        # The leaves of a group have one dtype, that of the first.
        return [self.value.astype(layout.dtypes[group[0]]) for group in layout.groups]

    def joined(self, is_true: Bool[Array, "leaves"]) -> Bool[Array, "leaves"]:
        return jnp.full_like(is_true, jnp.any(is_true))

    def of_leaves(self, is_true: Bool[Array, "leaves"], layout: Blocks) -> Field:
        return Uniform(jnp.any(is_true))

    def like(self, given: Any, scope: str, layout: Blocks, in_blocks: bool) -> Field:
        given = jnp.asarray(given, self.value.dtype)
        if given.ndim:
            raise _wrong_form("global", "one number", given)
        return Uniform(given)

    def mean(self, sizes: list[int] | None) -> tuple[Float[Array, ""], int | None]:
        return self.value, None if sizes is None else sum(sizes)


class PerLeaf(Field):
    """One number for all parameters of a leaf, an array of shape (leaves,)."""

    def blocks(self, layout: Blocks) -> list[Float[Array, "..."]]:
        return layout.spread(self.value)

    def of_leaves(self, is_true: Bool[Array, "leaves"], layout: Blocks) -> Field:
        return PerLeaf(is_true)

    def like(self, given: Any, scope: str, layout: Blocks, in_blocks: bool) -> Field:
        given = jnp.stack(given) if isinstance(given, list | tuple) and given else jnp.asarray(given)
        if given.shape not in ((), self.value.shape):
            raise _wrong_form("leaf", f"an array of shape {self.value.shape}", given)
        return PerLeaf(jnp.broadcast_to(given.astype(self.value.dtype), self.value.shape))

    def mean(self, sizes: list[int] | None) -> tuple[Float[Array, ""], int | None]:
        if sizes is None:
            return jnp.mean(self.value), None
        weights = jnp.asarray(sizes, self.value.dtype)
        return jnp.sum(self.value * weights) / jnp.maximum(jnp.sum(weights), 1), sum(sizes)


class PerParameter(Field):
    """One number for each parameter, as a list of blocks (`Blocks`)."""

    def map(self, function: Callable[..., Any], *others: Field) -> Field:
        return PerParameter([function(*items) for items in zip(self.value, *(other.value for other in others))])

    def blocks(self, layout: Blocks) -> list[Float[Array, "..."]]:
        return self.value

    def of_leaves(self, is_true: Bool[Array, "leaves"], layout: Blocks) -> Field:
        return PerParameter(layout.spread_truths(is_true))

    def like(self, given: Any, scope: str, layout: Blocks, in_blocks: bool) -> Field:
        if scope == "global":  # differing between the cells of a leaf, or it would be `Uniform`
            given = [jnp.asarray(given)] * len(self.value)
        elif scope == "leaf" or in_blocks:
            given = _listed(given, len(self.value), scope)
        else:
            forms = zip(_listed(given, len(layout.shapes), scope), layout.shapes, layout.dtypes)
            given = layout.pack([jnp.broadcast_to(b.astype(dtype), shape) for b, shape, dtype in forms])
        return PerParameter(
            [
                # Added to zeros and not broadcast, so that it is split over devices and shards as the block is.
                b.astype(own.dtype) if b.shape == own.shape else jnp.zeros_like(own) + b.astype(own.dtype)
                for b, own in zip(given, self.value, strict=True)
            ]
        )

    def mean(self, sizes: list[int] | None) -> tuple[Float[Array, ""], int | None]:
        count = sum(block.size for block in self.value)
        # The count as a float: it may be more than an int32 holds.
        return jnp.sum(stacked([jnp.sum(block) for block in self.value])) / max(float(count), 1.0), count


class Only(Summable):
    """A field of which only some leaves count, and the others are 0: `(field, truth values of shape (leaves,))`.

    Chosen where it is added up: a mask over the parameters would take the time of an array.
    """

    def blocks(self, layout: Blocks) -> list[Float[Array, "..."]]:
        field, is_true = self.value
        pairs = zip(field.blocks(layout), layout.spread_truths(is_true))
        return [jnp.where(true, block, jnp.zeros_like(block)) for block, true in pairs]


def stacked(numbers: Sequence[Float[Array, ""]]) -> Float[Array, "numbers"]:
    """Numbers as one array of the widest of their dtypes, which strict promotion leaves to who stacks them."""
    dtype = np.result_type(*(number.dtype for number in numbers))
    return jnp.stack([number.astype(dtype) for number in numbers])


def _listed(given: Any, count: int, scope: str) -> list[Array]:
    """One array for each leaf or block, from a list, or from one number for all of them."""
    if isinstance(given, list | tuple):
        given = [jnp.asarray(b) for b in given]
    else:
        given = jnp.asarray(given)
        # A policy of a single leaf may return its array bare, in no list.
        is_one = given.ndim == 0 or (count == 1 and scope == "parameter")
        given = [given] * count if is_one else list(given) if scope == "leaf" else [given]
    if len(given) != count:
        raise _wrong_form(scope, f"a list of {count} arrays", given)
    return given


def _wrong_form(scope: str, wanted: str, given: Any) -> ValueError:
    got = f"a list of {len(given)}" if isinstance(given, list) else f"an array of shape {given.shape}"
    return ValueError(
        f'A barrier of scope "{scope}" returns {wanted} from `evaluate`, but {got} came: return that, or give it another `scope`.'
    )


def as_field(value: Any) -> Field:
    """Costs or heights as a field, from a user's comparison or a state that was edited by hand.

    Args:
        value: a field; or a list of blocks, one number for each leaf, or one for all.

    Returns:
        The field.

    Raises:
        TypeError: for anything else.

    Example:
        >>> as_field([jnp.ones(3)]), as_field(jnp.ones(()))
        (PerParameter([Array([1., 1., 1.], dtype=float32)]), Uniform(Array(1., dtype=float32)))
    """
    if isinstance(value, Field):
        return value
    if isinstance(value, list | tuple):
        return PerParameter(list(value))
    array = jnp.asarray(value)
    if array.ndim > 1:
        raise TypeError(
            "What a comparison charges is a field of limjax.memory (Uniform, PerLeaf, PerParameter), a list of blocks, one number "
            f"for each leaf or one for all; got an array of shape {array.shape}."
        )
    return PerLeaf(array) if array.ndim else Uniform(array)


def leaf_sums(numbers: Mapping[str, Summable], layout: Blocks) -> dict[str, Float[Array, "leaves"]]:
    """Sums over the parameters of each leaf.

    Args:
        numbers: what to add up, by name.
        layout: of the parameters.

    Returns:
        The sums by the same names.
    """
    only = {name: x.value[1] for name, x in numbers.items() if isinstance(x, Only)}
    fields = {name: x.value[0] if isinstance(x, Only) else x for name, x in numbers.items()}
    # Those per parameter are summed in one go: a reduction of a few numbers costs more than adding them up.
    listed = {name: field.value for name, field in fields.items() if isinstance(field, PerParameter)}
    dtype = jnp.result_type(float)
    sizes = jnp.asarray(layout.sizes, dtype)
    sums = dict(zip(listed, layout.leaf_sums(list(listed.values()))))
    sums |= {name: field.value.astype(dtype) * sizes for name, field in fields.items() if name not in listed}
    # Chosen, not multiplied: 0 times a number that is not finite would be NaN.
    return {name: jnp.where(only[name], x, 0.0) if name in only else x for name, x in sums.items()}
