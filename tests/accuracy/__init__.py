"""How often the diagnosis is right: real loops, healthy and with each fault, through the real probes."""
