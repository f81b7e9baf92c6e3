"""The diagnosis of a run: what every detector sees, with one alarm for one root cause, the checklist and the loop note."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from forgemon.checklist import Checklist
from forgemon.chunk import Chunk
from forgemon.detectors import DETECTORS
from forgemon.detectors.candidate import Candidate
from forgemon.findings import Check, Finding, NoteAnswer
from forgemon.loop_note import LoopNote
from forgemon.symptoms import SYMPTOMS, UNKNOWN

LEVEL_ORDER: Mapping[str, int] = {"alarm": 0, "watch": 1, "info": 2}


@dataclass(frozen=True)
class Absorption:
    """A symptom that takes others as its evidence instead of letting them alarm beside it."""

    by: str
    takes: frozenset[str]
    precursors: bool = False
    "Whether it takes what came before it too (a climb before a NaN), and not only what came after (its consequences)."
    whatever_cause: bool = False
    "Whether it takes them though they name another cause: one thing that happened, seen from two sides."
    steps_before: int | None = None
    "How many steps it must have shown before them."
    unless: frozenset[str] = frozenset()
    "Symptoms beside which it takes nothing."
    rises: bool = False
    "Whether it becomes as grave as what follows from it, and stays what is said."
    caused_by: frozenset[str] = frozenset()
    "The causes that what it takes must have; any where there are none here."
    own_causes: frozenset[str] = frozenset()
    "The causes that it must have itself, as an alarm; any, and at any level, where there are none here."


OVERSHOOT = frozenset(
    {"loss-nonfinite", "gradient-nonfinite", "loss-oscillates", "loss-climbs", "exploding-gradients", "gradient-spike"}
)
"""What a step that is too large leads to."""

GROWN = frozenset({"exploding-gradients", "weights-growing"})
"""What a loss that climbs takes with it."""

OF_ITS_OWN = frozenset({"nonfinite-input"})
"""Causes that no fault of the loop's order brings about."""

ABSORPTIONS: tuple[Absorption, ...] = (
    # What one model of several puts out after a step on gradients that were not finite is the other's input.
    Absorption(
        "gradient-nonfinite",
        frozenset({"loss-nonfinite"}),
        whatever_cause=True,
        steps_before=1,
        caused_by=frozenset({"nonfinite-input"}),
    ),
    Absorption(
        "missing-zero-grad",
        frozenset(
            {
                "loss-nonfinite",
                "gradient-nonfinite",
                "loss-stuck",
                "vanishing-gradients",
                "loss-oscillates",
                "loss-climbs",
                "train-val-divergence",
                "val-at-chance",
                "exploding-gradients",
                "gradient-spike",
                "weights-growing",
            }
        ),
    ),
    # Weights that grew for long while the loss did not rise: its end in infinity is theirs, not that of a step too large.
    Absorption(
        "weights-growing",
        frozenset({"loss-nonfinite", "gradient-nonfinite"}),
        whatever_cause=True,
        steps_before=100,
        unless=frozenset({"loss-climbs", "loss-oscillates"}),
        rises=True,
    ),
    # What nothing holds back fits the training data alone in the end.
    Absorption("weights-growing", frozenset({"train-val-divergence"}), whatever_cause=True, rises=True),
    Absorption("gradients-discarded", frozenset({"loss-stuck", "val-at-chance"})),
    Absorption("optimizer-mismatch", frozenset({"loss-stuck", "val-at-chance"})),
    Absorption("frozen-parameters", frozenset({"loss-stuck", "vanishing-gradients", "weights-growing"})),
    Absorption("clip-scaled-gradients", frozenset({"loss-stuck"})),
    # Gradients that the clip was to hold back.
    *(
        rule
        for clip in ("clip-before-backward", "clip-after-step")
        for rule in (
            Absorption(clip, OVERSHOOT),
            Absorption(clip, frozenset({"vanishing-gradients", "loss-stuck"}), caused_by=frozenset({"learning-rate-too-high"})),
        )
    ),
    Absorption("accumulation-not-scaled", OVERSHOOT | {"loss-stuck", "vanishing-gradients"}),
    Absorption("softmax-before-cross-entropy", frozenset({"loss-stuck", "vanishing-gradients"})),
    Absorption("eval-in-train-mode", frozenset({"val-at-chance"})),
    Absorption("val-at-chance", frozenset({"train-val-divergence"}), precursors=True, whatever_cause=True),
    Absorption("train-in-eval-mode", frozenset({"loss-climbs"})),
    Absorption("loss-graph-retained", frozenset({"memory-growing"}), precursors=True),
    Absorption("shm-too-small", frozenset({"ended"}), rises=True, caused_by=frozenset({"shm-too-small"})),
    Absorption("vanishing-gradients", frozenset({"loss-stuck"})),
    Absorption(
        "loss-stuck",
        frozenset({"loss-oscillates", "loss-climbs", "exploding-gradients", "gradient-spike"}),
        precursors=True,
    ),
    Absorption("loss-climbs", frozenset({"vanishing-gradients"})),
    Absorption("loss-oscillates", frozenset({"vanishing-gradients"})),
    Absorption(
        "loss-nonfinite",
        frozenset({"gradient-nonfinite", "loss-oscillates", "loss-climbs", "exploding-gradients", "gradient-spike"}),
        precursors=True,
    ),
    Absorption("loss-nonfinite", GROWN, precursors=True, whatever_cause=True),
    Absorption("gradient-nonfinite", frozenset({"loss-oscillates", "loss-climbs", "exploding-gradients"}), precursors=True),
    # A spoilt batch that the loss followed: what the curve does from that step on is its doing.
    Absorption(
        "gradient-spike",
        frozenset({"loss-oscillates", "loss-climbs"}),
        whatever_cause=True,
        steps_before=0,
        own_causes=frozenset({"bad-batch"}),
    ),
    Absorption("loss-climbs", GROWN | {"gradient-spike"}, precursors=True, whatever_cause=True),
    Absorption("loss-oscillates", GROWN | {"gradient-spike"}, precursors=True, whatever_cause=True),
    Absorption("exploding-gradients", frozenset({"gradient-spike", "weights-growing"}), precursors=True, whatever_cause=True),
)
"""In the order in which they are applied: structure before dynamics, the root before what follows from it."""

SLACK_STEPS = 100
"""A consequence may show this many steps after its root was last seen."""


@dataclass(frozen=True)
class Report:
    """What is said about a run as of now."""

    findings: tuple[Finding, ...]
    "Alarms first, each level by first step."
    checklist: tuple[Check, ...]
    loop_note: str
    "The texts of `note`, one after the other."
    note: tuple[NoteAnswer, ...] = ()


class Diagnosis:
    """Feed it every chunk of one rank; any split of a run ends in the same report."""

    def __init__(self) -> None:
        self._detectors = [detector() for detector in DETECTORS]
        self._checklist = Checklist()
        self._loop_note = LoopNote()

    def feed(self, chunk: Chunk) -> None:
        for detector in self._detectors:
            detector.feed(chunk)
        self._checklist.feed(chunk)
        self._loop_note.feed(chunk)

    def report(self, others: Iterable[Candidate] = ()) -> Report:
        """`others`: what was seen elsewhere, by comparing ranks."""
        seen = [candidate for detector in self._detectors for candidate in detector.candidates()]
        seen += others
        findings = tuple(sorted(map(_finding, compose(seen)), key=lambda f: (LEVEL_ORDER[f.level], f.first_step)))
        note = self._loop_note.answers(findings)
        said = " ".join(answer.text for answer in note) or "No optimizer step was seen."
        return Report(findings, self._checklist.checks(findings), said, note)


def compose(candidates: list[Candidate]) -> list[Candidate]:
    """One root cause, one candidate: the others become evidence of it."""
    left = list(candidates)
    for rule in ABSORPTIONS:
        for root in [c for c in left if c.symptom == rule.by and _may_take(c, rule)]:
            if any(c.symptom in rule.unless for c in left):
                continue
            group = [root, *(c for c in left if c.symptom in rule.takes and _belongs(root, c, rule))]
            # A root that is itself in doubt hides no alarm: then it is the evidence of the other.
            gravest = min(group, key=lambda c: LEVEL_ORDER[c.level])
            kept = root if rule.rises else gravest
            left = [c for c in left if c not in group]
            left.append(replace(_with_evidence(kept, [c for c in group if c is not kept]), level=gravest.level))
    return left


def _may_take(root: Candidate, rule: Absorption) -> bool:
    if rule.own_causes:
        return root.level == "alarm" and root.cause in rule.own_causes
    return root.level != "info"


def _belongs(root: Candidate, other: Candidate, rule: Absorption) -> bool:
    # A curve's own verdict on the rate, or none at all, gives way; another cause that is known stays beside it.
    same_cause = root.cause == other.cause or UNKNOWN in (root.cause, other.cause) or other.cause == root.symptom
    same_cause = same_cause or (root.cause == root.symptom and other.cause not in OF_ITS_OWN)
    same_cause = same_cause or (rule.whatever_cause and (other.cause not in OF_ITS_OWN or bool(rule.caused_by)))
    same_cause = same_cause and (not rule.caused_by or other.cause in rule.caused_by)
    after = other.last_step >= root.first_step and (root.stands or other.first_step <= root.last_step + SLACK_STEPS)
    return (
        same_cause
        and (rule.precursors or after)
        and (rule.steps_before is None or other.first_step >= root.first_step + rule.steps_before)
    )


def _with_evidence(root: Candidate, taken: list[Candidate]) -> Candidate:
    if not taken:
        return root
    evidence = {**root.evidence, **{c.symptom: c.summary for c in taken}}
    causes = [c.cause for c in taken if c.level == "alarm" and c.cause != UNKNOWN]
    cause = causes[0] if root.cause == UNKNOWN and causes else root.cause
    follows = "" if root.symptom != root.cause else "".join(f" From it follows: {c.summary}" for c in taken[:1])
    named = "".join(f" {c.summary}" for c in taken if c.symptom == "gradient-nonfinite" and root.symptom == "loss-nonfinite")
    return replace(root, cause=cause, evidence=evidence, summary=root.summary + (follows or named))


def _finding(candidate: Candidate) -> Finding:
    return Finding(
        symptom=candidate.symptom,
        cause=candidate.cause,
        level=candidate.level,
        first_step=candidate.first_step,
        last_step=candidate.last_step,
        summary=candidate.summary,
        evidence=candidate.evidence,
        refute=candidate.refute,
        where=candidate.where,
        fix=SYMPTOMS[candidate.symptom].fix_for(candidate.cause),
        stands=candidate.stands,
    )
