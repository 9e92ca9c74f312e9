import re
import textwrap
from pathlib import Path

import torch

from compression import parameter_count

README = Path(__file__).parents[3] / "README.md"


def python_example():
    """The indented block that follows "In Python", without its indentation."""
    (example,) = re.findall(r"^In Python.*\n\n((?:(?: {4}.*)?\n)+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    return textwrap.dedent(example)


def test_the_example_runs_as_printed_and_loads_what_it_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    exec(python_example(), names)
    model, small, same = names["model"], names["small"], names["same"]
    assert parameter_count(small) <= 5_000 < parameter_count(model) / 3
    assert (tmp_path / "small.safetensors").stat().st_size < 4 * parameter_count(model) / 10
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(same(images), small(images))
