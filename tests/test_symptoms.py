"""The symptom table: its ids are stable, and every row has a fix for each of its causes."""

from __future__ import annotations

from forgemon.symptoms import SYMPTOMS, UNKNOWN

SECTION_A = (
    "loss-nonfinite gradient-nonfinite loss-stuck loss-oscillates loss-climbs train-val-divergence val-at-chance "
    "vanishing-gradients exploding-gradients gradient-spike weights-growing"
).split()
SECTION_B = (
    "missing-zero-grad gradients-discarded optimizer-mismatch frozen-parameters clip-before-backward clip-after-step "
    "clip-scaled-gradients accumulation-not-scaled eval-in-train-mode train-in-eval-mode eval-with-grad loss-graph-retained "
    "softmax-before-cross-entropy val-loader-shuffled val-uses-train-data best-checkpoint-not-saved checkpoint-incomplete "
    "cpu-fallback shm-too-small"
).split()
SECTION_C = "memory-growing input-bound stalled ended ranks-diverged straggler".split()


def test_ids_and_sections_are_those_people_rely_on() -> None:
    assert list(SYMPTOMS) == SECTION_A + SECTION_B + SECTION_C
    assert "".join(s.section for s in SYMPTOMS.values()) == "A" * 11 + "B" * 19 + "C" * 6


def test_a_structural_symptom_is_its_own_cause() -> None:
    assert all([c.id for c in SYMPTOMS[i].causes] == [i] for i in SECTION_B)


def test_every_cause_has_its_fix_and_an_unknown_one_too() -> None:
    for symptom in SYMPTOMS.values():
        assert symptom.fix_for(UNKNOWN) == symptom.fix
        for cause in symptom.causes:
            assert symptom.fix_for(cause.id) == cause.fix != ""
