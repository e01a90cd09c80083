"""What every test shares: one thread, and tensors whose annotated shapes are checked as they cross a call."""

import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
install_import_hook("accord", "beartype.beartype")
