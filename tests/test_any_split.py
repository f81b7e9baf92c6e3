"""The diagnosis is the same however the run is cut into pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.chunk import Chunk, Event, Rows, Updates
from forgemon.diagnosis import Diagnosis
from tests.detectors.fact_events import EVIDENCE, fact, gone
from tests.detectors.runs import (
    START,
    chunk,
    evaluations,
    event,
    gradient_rows,
    machine_event,
    machine_rows,
    memory_rows,
    metric_rows,
    split,
    step_rows,
    update_rows,
)
from tests.diagnosed import report_of

NAN, INF = float("nan"), float("inf")
CHANGES: list[dict[str, Any]] = [{}, {"batches": 1}, {"on_purpose": True}, {"limit": INF}, {"from_the_start": None}]


@st.composite
def facts(draw: st.DrawFn) -> list[Event]:
    """Facts of section B that come, go and return, of several optimizers and loaders, and what they are weighed against."""
    events: list[Event] = []
    for step in range(draw(st.integers(0, 12))):
        name, key = draw(st.sampled_from(sorted(EVIDENCE))), draw(st.sampled_from([0, 1, "cross_entropy"]))
        if draw(st.integers(0, 3)):
            changes = draw(st.sampled_from(CHANGES))
            events.append(fact(name, 40 * step, draw(st.sampled_from([1, 2, 64])), **{"key": key, **changes}))
        else:
            events.append({**gone(name, 40 * step, 40 * step - 8), "key": key})
    extra = [
        event("signals", 300, signals={"sample overlap": "seen"}),
        event("exiting", 500),
        event("exception", 500, type="E"),
    ]
    return events + draw(st.lists(st.sampled_from(extra), max_size=2))


@st.composite
def runs(draw: st.DrawFn) -> Chunk:
    """Runs of every kind: quiet, climbing, blowing up, with gaps and with faults of the loop."""
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 400))
    chance = np.random.default_rng(seed)
    loss = np.exp(chance.normal(0, draw(st.sampled_from([0.01, 0.5, 2.0])), count))
    loss *= np.exp(np.arange(count) * draw(st.sampled_from([-0.02, 0.0, 0.05, 0.5])))
    if draw(st.booleans()):
        loss[count // 2 :] *= draw(st.sampled_from([10.0, 1e3, INF, NAN]))
    norm = np.sqrt(np.abs(loss)) * draw(st.sampled_from([1.0, 30.0]))
    holes = chance.random((4, count)) < draw(st.sampled_from([0.0, 0.1, 0.9]))
    loss[holes[0]], norm[holes[1]] = NAN, NAN
    optimizers = draw(st.sampled_from([1, 1, 1, 2]))
    rows = step_rows(
        loss,
        steps=np.cumsum(1 + (chance.random(count) < 0.2)).tolist(),
        gradient_norm=norm,
        optimizer=np.arange(count) % optimizers,
        gradients_reused=np.where(holes[2], NAN, chance.random(count) < draw(st.sampled_from([0.0, 0.5, 1.0]))),
        loss_scale=draw(st.sampled_from([NAN, 1024.0])),
        learning_rate=np.exp(-np.arange(count) * draw(st.sampled_from([0.0, 0.01]))),
        training=np.where(holes[3], NAN, 1),
        micro_batches=draw(st.sampled_from([1, 4, NAN])),
        forward_s=0.0002 * np.arange(count),
        backward_s=0.001,
        optimizer_s=0.001,
        data_s=draw(st.sampled_from([NAN, 0.01, 5.0])),
        step_s=6.0,
        batch_size=32,
    )
    rows["time"] += np.where(chance.random(count) < 0.01, 50.0, 0.0)
    alive = np.arange(count)[:, None] < draw(st.integers(0, 500))
    table = np.where(alive, np.repeat(norm[:, None], 3, axis=1), 0.0)
    gradients = [gradient_rows(rows["step"].tolist(), table.tolist(), ["a.weight", "a.bias", "b.weight"])] if count else []
    events: list[Event] = [event("signals", 0, signals={"loss": "seen"})] if draw(st.booleans()) else []
    values = draw(st.lists(st.floats(0.1, 3) | st.just(NAN), max_size=30))
    events += evaluations(values, np.linspace(2, 0.1, len(values)))
    for i in range(draw(st.integers(0, 4))):
        events.append(event("fact", 2**i, fact="missing-zero-grad", optimizer=0, times=2**i))
        events.append(event("checkpoint", 100 * i, path=f"/out/{i % 2}.pt", evaluation_step=100 * i))
    events += draw(facts())
    machine_events = [machine_event("stalled", START + 200, since=START + 100, usual_s=1.0, seconds=100.0, stack=[])]
    machine_events += [machine_event("ended", START + 9999, how=draw(st.sampled_from(["finished", "killed"])))]
    times = (START + 4 * np.arange(100)).tolist()
    machine = machine_rows(times, process_rss_bytes=draw(st.sampled_from([NAN, 1e8])) * np.arange(100))
    metrics = {"val_acc": metric_rows([100, 200], draw(st.sampled_from([[0.1, 0.2], [NAN, 0.9]])))}
    return chunk(
        rows,
        events,
        gradients,
        machine_events[: draw(st.integers(0, 2))],
        machine,
        updates=_updates(draw, rows),
        memory=memory_rows(times, machine["process_rss_bytes"]),
        metrics=metrics if draw(st.booleans()) else {},
    )


def _updates(draw: st.DrawFn, rows: Rows) -> list[Updates]:
    """Of every third step, in one table or two."""
    steps = rows["step"][::3].astype(np.float64)
    weights = np.exp(steps * draw(st.sampled_from([0.0, 0.02])))[:, None] * [1.0, 2.0, 3.0]
    changes = weights * draw(st.sampled_from([1e-3, 0.8, NAN]))
    half = draw(st.sampled_from([len(steps), len(steps) // 2]))
    names = ["a.weight", "a.bias", "b.weight"]
    parts = [(steps[:half], weights[:half], changes[:half]), (steps[half:], weights[half:], changes[half:])]
    return [
        update_rows(at.astype(np.int64).tolist(), of.tolist(), by.tolist(), names, table)
        for table, (at, of, by) in enumerate(parts)
        if len(at)
    ]


@settings(max_examples=150, deadline=None)
@given(run=runs(), seed=st.integers(0, 2**16), pieces=st.integers(1, 30))
def test_any_split_of_a_run_gives_the_same_report(run: Chunk, seed: int, pieces: int) -> None:
    assert report_of(*split(run, seed, pieces)) == report_of(run)


@settings(max_examples=15, deadline=None)
@given(run=runs(), seed=st.integers(0, 2**16))
def test_asking_for_reports_on_the_way_changes_nothing(run: Chunk, seed: int) -> None:
    diagnosis = Diagnosis()
    for piece in split(run, seed, 10):
        diagnosis.feed(piece)
        diagnosis.report()
    assert diagnosis.report() == report_of(run)
