"""Put before a script, after everything.py: a device simulated on the CPU, in which whoever of ours waits for it is found.

Tensors are marked as being on the device: the model's, the batches that are sent there, and all that is computed from them. In our
callbacks they say that they are on `cuda:0`; whatever reads a number of one there (a bool, a list, a copy to the host, an operation
whose output has a size that depends on values) is noted in `waits`, and raises as torch.cuda.set_sync_debug_mode("error") would.
Numbers of ours that are sent for come at the next poll, as from a GPU.
"""

import _thread
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)
WAITS_IN_OPERATIONS = (
    "_local_scalar_dense item is_nonzero nonzero nonzero_numpy nonzero_static equal masked_select _coalesce unique_dim _unique2 "
    "unique_consecutive unique_dim_consecutive allclose bincount histc repeat_interleave count_nonzero_sync"
).split()
WAITS_IN_METHODS = (
    "item tolist numpy cpu __bool__ __float__ __int__ __index__ __array__ __repr__ __format__ __contains__".split()
)
FACTORIES = "zeros ones empty full tensor arange as_tensor zeros_like ones_like".split()

main_thread = _thread.get_ident()
waits: list[str] = []
numbers_sent_for = 0
_marked: set[int] = set()
_session: Any = None
_sending = False


class Waited(RuntimeError):
    """As torch raises it."""


def storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def marked(tensor: Any) -> bool:
    if not isinstance(tensor, torch.Tensor):
        return False
    if tensor.layout is torch.sparse_coo:
        return marked(tensor._values())
    return tensor.layout is torch.strided and storage(tensor) in _marked


def mark(tensor: torch.Tensor, is_marked: bool = True) -> torch.Tensor:
    if tensor.layout is torch.sparse_coo:
        mark(tensor._indices(), is_marked)
        mark(tensor._values(), is_marked)
    elif tensor.layout is torch.strided:
        (_marked.add if is_marked else _marked.discard)(storage(tensor))
    return tensor


def ours() -> bool:
    """Whether this is our code: a callback, or our own thread."""
    if _sending or _session is None:
        return False
    return _thread.get_ident() != main_thread or bool(_session.guard.inside)


def waited(what: str) -> None:
    frames = [
        f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in traceback.extract_stack() if "/probes/" in f.filename
    ]
    waits.append(f"{what} at {' < '.join(reversed(frames[-4:]))}")
    raise Waited(what)


def tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors(value)
    elif isinstance(values, dict):
        yield from tensors(list(values.values()))


class Device(TorchDispatchMode):
    """Follows what is on the device from operation to operation."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = list(tensors([args, kwargs]))
        before = {storage(t) for t in inputs if t.layout is torch.strided}
        on_device = any(map(marked, inputs))
        name = function.__name__.partition(".")[0]
        if on_device and ours() and (name in WAITS_IN_OPERATIONS or _by_mask(name, args)):
            waited(name)
        result = function(*args, **kwargs)
        for output in tensors(result):
            if output.layout is not torch.strided or storage(output) not in before or on_device:
                mark(output, on_device)
        if on_device:
            written = [
                a for a, s in zip(args, function._schema.arguments, strict=False) if s.alias_info and s.alias_info.is_write
            ]
            for one in tensors(written):
                mark(one)
        return result


def _by_mask(name: str, args: Any) -> bool:
    masks = [t for t in tensors(args[1:]) if t.dtype in (torch.bool, torch.uint8)]
    return name in ("index", "index_put", "index_put_") and bool(masks)


def _method(name: str) -> Callable[..., Any]:
    real = getattr(torch.Tensor, name)

    @functools.wraps(real)
    def method(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if ours() and marked(self):
            waited(name)
        return real(self, *args, **kwargs)

    return method


def _to(real: Callable[..., Any]) -> Callable[..., Any]:
    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        targets = [a for a in (*args, kwargs.get("device")) if isinstance(a, (str, torch.device))]
        if not ours():
            # The loop's `to(device)` is to the device.
            return mark(real(self, *args, **kwargs).clone()) if targets else real(self, *args, **kwargs)
        if targets and marked(self) and torch.device(targets[0]).type == "cpu":
            waited("to the host")
        args = tuple(torch.device("cpu") if a in targets else a for a in args)
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        result = real(self, *args, **kwargs)
        return mark(result.clone()) if targets and torch.device(targets[0]).type == "cuda" else result

    return to


def _factory(real: Callable[..., Any]) -> Callable[..., Any]:
    def factory(*args: Any, **kwargs: Any) -> Any:
        device = kwargs.get("device")
        on_device = ours() and device is not None and torch.device(device).type == "cuda"
        result = real(*args, **({**kwargs, "device": "cpu"} if on_device else kwargs))
        return mark(result) if on_device else result

    return factory


def _property(name: str, on_device: Any) -> property:
    real = getattr(torch.Tensor, name).__get__
    return property(lambda self: on_device if ours() and marked(self) else real(self))


def submit(self: Any, scalars: Any, deliver: Any, rare: bool = False) -> bool:
    """What torch does by copies behind the work already queued."""
    global _sending, numbers_sent_for
    before, _sending = _sending, True
    try:
        values = [float(v) for s in scalars for v in s.detach().reshape(-1).to(torch.float64).tolist()]
    finally:
        _sending = before
    numbers_sent_for += len(values)
    self._waiting.append(([], deliver, values))
    return True


def simulate(session: Any) -> Any:
    """From now on, in this process; the mode that is returned is to be entered."""
    global _session
    _session = session
    for name in WAITS_IN_METHODS:
        setattr(torch.Tensor, name, _method(name))
    for name in FACTORIES:
        setattr(torch, name, _factory(getattr(torch, name)))
    patched: Any = torch.Tensor
    patched.to = _to(torch.Tensor.to)
    for name, value in (("device", DEVICE), ("is_cpu", False), ("is_cuda", True)):
        setattr(torch.Tensor, name, _property(name, value))
    torch.cuda.is_current_stream_capturing = lambda: False
    torch._C._len_torch_dispatch_stack = lambda: 0
    torch_modes: Any = sys.modules["_forgemon_probes.torch_modes"]
    torch_modes._dispatch_modes = lambda: 0
    scaler: Any = torch.amp.GradScaler
    new_scale = scaler._lazy_init_scale_growth_tracker

    def scale_on_device(self: Any, device: Any) -> None:
        new_scale(self, device)
        mark(self._scale)
        mark(self._growth_tracker)

    scaler._lazy_init_scale_growth_tracker = scale_on_device
    transfer: Any = sys.modules["_forgemon_probes.transfer"]
    transfer.Transfer.submit = submit
    mode: Any = Device
    return mode()


def told() -> str:
    return json.dumps({"waits": waits, "numbers": numbers_sent_for, "marked": len(_marked)})
