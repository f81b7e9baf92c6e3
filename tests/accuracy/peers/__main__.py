"""python -m tests.accuracy.peers RUN_DIR... prints what each of the other tools says of a run."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.accuracy.peers import TOOLS, alarms_of, trace_of


def main(paths: list[str]) -> None:
    for path in paths:
        trace = trace_of(Path(path))
        print(f"{path}: {len(trace.steps)} rows, {len(trace.evaluations)} validation passes")
        for tool in TOOLS:
            alarms = alarms_of(tool, trace)
            print(f"  {tool}" + ("" if alarms else ": no alarm"))
            for alarm in alarms:
                names = ", ".join(sorted(alarm.symptoms | alarm.causes)) or "no diagnosis"
                print(f"    step {alarm.step}  {alarm.rule} ({alarm.times} times): {alarm.text}  [{names}]")


if __name__ == "__main__":
    main(sys.argv[1:])
