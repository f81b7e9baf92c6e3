"""The patients: plain PyTorch training scripts that do not know of forgemon."""
