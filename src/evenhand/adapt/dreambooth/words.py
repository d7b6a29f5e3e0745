"""The rare token of the captions: what the model's tokenizers make of it."""

import warnings
from typing import Any

from evenhand.core.errors import UserError
from evenhand.diffusion.adapters import clip_encoders
from evenhand.diffusion.tokens import TOKENIZERS

COMMON = 10_000  # entries of a vocabulary that are taken for words in use, or its first half


def check_token(pipe: Any, token: str) -> None:
    """Refuses a token that means something to the model already, and warns of one that may.

    A word that stands in a tokenizer's vocabulary as it is, among the more frequent half, has a
    meaning that training would bend. (Vocabularies are in the order of frequency.) A rare one has
    not (`sks`), nor has one that is spelled out by pieces of one or two letters (`zqx`); pieces of
    three letters and more are often words, and bring what they mean with them.

    Raises:
        UserError: the token is a word in use.
    """
    for name in TOKENIZERS:
        tokenizer = getattr(pipe, name, None)
        if tokenizer is None:
            continue
        pieces = _pieces(tokenizer, token)
        if len(pieces) == 1 and _in_use(tokenizer, *pieces):
            raise UserError(
                f"token: {token!r} is a word that the {name} of {type(pipe).__name__} knows, whose "
                "meaning would be bent; choose a rare one, such as 'sks' or 'zqx'"
            )
        words = [text for piece in pieces if len(text := _text(piece)) > 2]
        if len(pieces) > 1 and words:
            warnings.warn(
                f"token: the {name} of {type(pipe).__name__} reads {token!r} as "
                f"{' + '.join(map(_text, pieces))}; what {words[0]!r} means to the model comes "
                "with it. One that is not split into words, such as 'sks' or 'zqx', means nothing",
                stacklevel=2,
            )


def check_learned(pipe: Any, tokens: list[str]) -> None:
    """Refuses learned tokens that a pipeline cannot be given.

    Raises:
        UserError: it takes none, or one's name stands in a vocabulary already.
    """
    try:
        pairs = clip_encoders(pipe)
    except UserError as error:
        raise UserError(
            f"per: shared: {str(error).removesuffix('. Use lora instead')}; train "
            "per: cluster or per: group"
        ) from error
    for tokenizer, _ in pairs:
        if known := set(tokens) & set(tokenizer.get_vocab()):
            raise UserError(
                f"token: a tokenizer of {type(pipe).__name__} has {min(known)!r} already, so it "
                "cannot be learned anew; name another token"
            )


def _pieces(tokenizer: Any, token: str) -> list[str]:
    """The entries of the vocabulary that spell a word."""
    ids = tokenizer(token, add_special_tokens=False).input_ids
    unknown = getattr(tokenizer, "unk_token_id", None)
    found = [piece for piece in tokenizer.convert_ids_to_tokens(ids) if _text(piece)]
    return [] if ids == [unknown] else found


def _text(piece: str) -> str:
    """The letters of an entry, without the signs for where words begin and end."""
    return piece.replace("</w>", "").strip("▁Ġ ")


def _in_use(tokenizer: Any, piece: str) -> bool:
    number = tokenizer.convert_tokens_to_ids(piece)
    return len(_text(piece)) > 1 and number < max(COMMON, len(tokenizer) // 2)
