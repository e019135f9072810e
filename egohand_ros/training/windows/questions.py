"""Questions about a scene with one instruction, and their answers: what EgoMAN's language model learns first.

As in EgoMAN's data set (arXiv 2512.16907, section 3) they are semantic (which hand, what object), spatial (where a hand
is, and will be) and about motion (when, what act, the whole query), in words of our own. Answers are words, or special
tokens whose states are read as waypoints and an act.
"""

import re
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ...forecast.egoman.config import FUTURE, MOMENTS, PAST, STEP
from ...forecast.egoman.prompt import ACT, ANSWER, CONTACT, END, LEFT, POSE, RIGHT, START, question_of
from ...hand.skeleton import SIDES

_QUERIES = 0.4  # how often the whole query is asked
_WITHOUT_PAST = 0.3
_TIME, _PLACE = "time", "place"


@dataclass(frozen=True)
class Question:
    """Words to ask and to answer; `told` says what of which moment the answer tells: (moment, time or place, sides);
    `act` whether it tells the act; `past` whether past motion stands in the question."""

    text: str
    answer: str
    past: bool
    told: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    act: bool = False


def query(task: str, moments: np.ndarray, side: int, past: bool) -> Question:
    """The whole query about what will be done, `moments` (2,) s ahead: its answer has a contact where that is to come
    within the horizon."""
    touches = 0.0 <= moments[0] < FUTURE * STEP
    answer = "".join(token for token in ANSWER if touches or token != CONTACT)
    ahead = [(name, part, (side,)) for name in MOMENTS[1:] for part in (_TIME, _PLACE) if touches or name == "end"]
    return Question(question_of(task, past), answer, past, (("start", _PLACE, (0, 1)), *ahead), act=True)


def draw_question(rng: np.random.Generator, task: str, label: str, moments: np.ndarray, side: int) -> Question:
    """One of all kinds, at random."""
    past = rng.random() >= _WITHOUT_PAST
    if rng.random() < _QUERIES:
        return query(task, moments, side, past)
    hand, other = SIDES[side], int(rng.integers(2))
    kinds = [
        ("which hand is next", RIGHT if side else LEFT, (), False),
        ("what object is next", label, (), False),
        ("what is the next action", ACT, (), True),
        (f"where is the {SIDES[other]} hand now", START, (("start", _PLACE, (other,)),), False),
        ("when does it end", END, (("end", _TIME, (side,)),), False),
        (f"where is the {hand} hand at the end", END, (("end", _PLACE, (side,)),), False),
    ]
    if 0.0 <= moments[0] < FUTURE * STEP:
        kinds += [
            ("when does it touch the object", CONTACT, (("contact", _TIME, (side,)),), False),
            (f"where is the {hand} hand at contact", CONTACT, (("contact", _PLACE, (side,)),), False),
            (
                f"when and where does the {hand} hand touch the object",
                CONTACT,
                (("contact", _TIME, (side,)), ("contact", _PLACE, (side,))),
                False,
            ),
        ]
    words, answer, told, act = kinds[rng.integers(len(kinds))]
    lead = f"Given the past wrist motion: {POSE * PAST}. " if past else ""
    return Question(f"{lead}To {task}, {words}?", answer, past, told, act)


def phrase_embedding(text: str, width: int) -> np.ndarray:
    """A unit vector (width,) of the words of a phrase: the sum of one random direction a word. Words have nothing in
    common in it; EgoMAN takes CLIP's, where they have."""
    words = re.findall(r"[a-z]+", text.lower())
    total = sum(np.random.default_rng(crc32(word.encode())).standard_normal(width) for word in words)
    return (total / max(np.linalg.norm(total), 1e-9)).astype(np.float32)
