"""Nothing of ours waits for a device: a loop that does everything on one, which is simulated where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

from tests.probes.watched import events, read, run_script

HERE = Path(__file__).parent
PARTS = (HERE / "everything.py").read_text() + (HERE / "simulated_device.py").read_text()

EVERYTHING = """
session = sys.modules["_forgemon_probe"].session
BROKEN
with simulate(session):
    train()
session.writer.flush(30)
print(told())
"""


def test_no_callback_reads_what_is_on_the_device(tmp_path: Path) -> None:
    found = json.loads(run_script(PARTS + EVERYTHING.replace("BROKEN", ""), tmp_path, timeout_s=280).stdout)
    assert found["waits"] == []
    assert found["numbers"] > 1000 and found["marked"] > 100
    chunk = read(tmp_path)  # which fails on any recorded error of the probe
    facts = {event["fact"] for event in events(chunk, "fact")}
    assert {"eval-in-train-mode", "eval-with-grad", "val-uses-train-data"} <= facts
    assert events(chunk, "nonfinite") and events(chunk, "evaluation") and events(chunk, "skipped")
    assert len(chunk.updates) and len(chunk.gradients)


READS = {
    "a number": "value.item()",
    "a condition": "bool(value > 0)",
    "a comparison in a condition": "1 if value > 0 else 0",
    "a list": "value.reshape(-1).tolist()",
    "a copy": "value.to('cpu')",
    "a copy by its method": "value.cpu()",
    "a comparison": "torch.equal(value, value)",
    "a mask": "value.reshape(1)[value.reshape(1) > 0]",
    "a message": "f'{value}'",
    "a number of an integer": "int(value.long())",
    "a search": "value.reshape(1).nonzero()",
}
BROKEN = """
reads = json.loads(sys.argv[1])
def broken(read):
    def criterion(name, reduction, values, output):
        value = output.detach()
        eval(read)
    return criterion
heard = session.probes._heard
heard["criterion"] = (*heard["criterion"], *map(broken, reads))
def train():
    x, model = torch.randn(4, 2).to("cpu"), torch.nn.Linear(2, 1).to("cpu")
    F.mse_loss(model(x), torch.zeros(4, 1)).backward()
    F.mse_loss(torch.nn.Linear(2, 1)(torch.randn(4, 2)), torch.zeros(4, 1)).backward()  # not on the device
    assert session.guard.unsaid + sum(session.guard._errors.values()) == len(waits)
"""


def test_one_that_does_is_found(tmp_path: Path) -> None:
    """So that the test above can fail."""
    source = PARTS + EVERYTHING.replace("BROKEN", BROKEN)
    found = json.loads(run_script(source, tmp_path, json.dumps(list(READS.values()))).stdout)
    assert len(found["waits"]) == len(READS), found["waits"]
