"""A real pretrained model in a shape that vLLM's CPU attention accepts.

`stories260k` (Llama architecture, 260,032 parameters) has attention heads of 8 numbers, and the
CPU kernels start at 32. Padding each query and key with zeros changes no dot product, so the same
function can be written with heads of 32:

- rotary positions turn the pairs (i, i + size/2) by the frequency theta**(-2i/size), so the two
  halves of a head move to the starts of the two wider halves, and theta becomes theta**4, which
  leaves the four frequencies in use as they were;
- attention divides by sqrt(size), so queries grow by sqrt(32/8) = 2.

Values are padded too, and the output projection does not read the padding.
"""

import json
import shutil
from pathlib import Path

HEAD, WIDE = 8, 32
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""The model was never taught turns: it continues what it is given."""


def widen(source: Path, target: Path) -> Path:
    """Write the model of `source` to `target` with wide heads and a chat template."""
    import torch
    from safetensors.torch import load_file, save_file

    config = json.loads((source / "config.json").read_text())
    assert config["head_dim"] == HEAD
    weights = load_file(source / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            heads = weight.view(-1, 2, HEAD // 2, weight.shape[1])  # (heads, half, i, hidden)
            wide = torch.zeros(heads.shape[0], 2, WIDE // 2, heads.shape[-1])
            wide[:, :, : HEAD // 2] = heads
            scale = (WIDE / HEAD) ** 0.5 if "q_proj" in name else 1.0
            weights[name] = wide.flatten(0, 2) * scale
        elif name.endswith("o_proj.weight"):
            heads = weight.view(weight.shape[0], -1, 2, HEAD // 2)  # (hidden, heads, half, i)
            wide = torch.zeros(*heads.shape[:3], WIDE // 2)
            wide[..., : HEAD // 2] = heads
            weights[name] = wide.flatten(1)
    config["head_dim"] = WIDE
    config["rope_parameters"]["rope_theta"] **= WIDE // HEAD
    target.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(source / name, target / name)
    (target / "config.json").write_text(json.dumps(config))
    (target / "chat_template.jinja").write_text(TEMPLATE)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target
