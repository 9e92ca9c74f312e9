import io
import os
import sys

import pytest
import safetensors.torch
import torch

from compression.cli.options import main
from compression.packing.container import write
from compression.packing.state_file import VERSION, read_packed
from compression.packing.tensors import encode_tensors
from compression.quantization.affine import AffineSpec, quantize_affine
from compression.quantization.codebook import quantize_codebook
from compression.quantization.ranges import least_squares, percentile
from compression.quantization.state_dict import dequantize_state_dict, quantize_state_dict


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(16, 8, 3, 3, generator=generator),
        "conv.bias": torch.randn(16, generator=generator),
        "steps": torch.tensor(7),
    }


@pytest.fixture
def source(tmp_path, state):
    torch.save(state, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def packed_and_unpacked(source, *options):
    packed, plain = source.with_name("packed"), source.with_name("plain.safetensors")
    assert main(["pack", str(source), "-o", str(packed), *options]) == 0
    assert main(["unpack", str(packed), "-o", str(plain)]) == 0
    return safetensors.torch.load_file(plain)


@pytest.mark.parametrize(
    ("options", "quantize"),
    [
        ([], lambda w: quantize_affine(w, AffineSpec(8))),
        (["--bits", "3"], lambda w: quantize_affine(w, AffineSpec(3))),
        (["--bits", "4", "--no-entropy"], lambda w: quantize_affine(w, AffineSpec(4))),
        (["--bits", "4", "--asymmetric"], lambda w: quantize_affine(w, AffineSpec(4, symmetric=False))),
        (["--bits", "4", "--per-tensor"], lambda w: quantize_affine(w, AffineSpec(4, axis=None))),
        (["--bits", "4", "--ranges", "percentile"], lambda w: quantize_affine(w, AffineSpec(4, ranges=percentile))),
        (
            ["--bits", "2", "--ranges", "least-squares"],
            lambda w: quantize_affine(w, AffineSpec(2, ranges=least_squares)),
        ),
        (["--bits", "2", "--method", "codebook"], lambda w: quantize_codebook(w, 2)),
    ],
)
def test_pack_and_unpack_quantize_kernels(source, state, options, quantize):
    found = packed_and_unpacked(source, *options)
    assert torch.equal(found.pop("conv.weight"), quantize(state.pop("conv.weight")).dequantize())
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_the_methods_for_all_tensors(source, state):
    half = packed_and_unpacked(source, "--method", "float16")
    assert all(torch.equal(half[n], t.half().float() if t.is_floating_point() else t) for n, t in state.items())
    bytes_ = packed_and_unpacked(source, "--method", "min-max-8")
    expected = dequantize_state_dict(quantize_state_dict(state, 8))
    assert all(torch.equal(bytes_[name], tensor) for name, tensor in expected.items())
    same = packed_and_unpacked(source, "--method", "none")
    assert all(torch.equal(same[name], tensor) for name, tensor in state.items())


def test_pack_says_how_much_smaller_it_got(source, capsys):
    packed = source.with_name("packed")
    main(["pack", str(source), "-o", str(packed), "--bits", "2"])
    size = packed.stat().st_size
    assert f"{packed}: {size:,} bytes, {size / source.stat().st_size:.3f} of {source}'s" in capsys.readouterr().out


def test_inspect_shows_each_tensor_with_its_error(source, capsys):
    packed = source.with_name("packed")
    main(["pack", str(source), "-o", str(packed), "--bits", "4", "--no-entropy"])
    capsys.readouterr()
    assert main(["inspect", str(packed), "--original", str(source)]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.split()}
    weight = torch.load(source, weights_only=True)["conv.weight"]
    restored = quantize_affine(weight, AffineSpec(4)).dequantize()
    error = float((restored - weight).double().norm() / weight.double().norm())
    assert rows["conv.weight"][1:4] == ["affine", "16x8x3x3", "4"]
    assert float(rows["conv.weight"][-1]) == pytest.approx(error, rel=5e-3)
    assert rows["conv.bias"][1:5] == ["float32", "16", "32", "64"]
    assert rows["steps"][1:4] == ["int64", "scalar", "64"]


@pytest.mark.parametrize("file_first", [True, False])
def test_bench_compares_methods_and_writes_nothing(source, capsys, file_first):
    before = sorted(source.parent.iterdir())
    options = ["--bits", "4,1"]
    assert main(["bench", str(source), *options] if file_first else ["bench", *options, str(source)]) == 0
    lines = capsys.readouterr().out.splitlines()
    errors = {line.split("  ")[1].strip() + line.split()[-4]: float(line.split()[-1]) for line in lines if "e-" in line}
    assert errors["affine, least-squares4"] <= errors["affine, min-max4"] <= errors["affine, per tensor4"]
    assert errors["codebook4"] < errors["codebook1"]
    assert errors["float1616"] < errors["bfloat1616"] < errors["min-max-88"]
    assert sorted(source.parent.iterdir()) == before


@pytest.mark.parametrize("command", ["pack", "unpack", "inspect", "bench"])
def test_a_damaged_file_is_one_line_and_status_1_and_writes_nothing(source, capsys, command):
    packed, out = source.with_name("packed"), source.with_name("out")
    main(["pack", str(source), "-o", str(packed)])
    damaged = bytearray(packed.read_bytes())
    damaged[-1] ^= 1
    packed.write_bytes(damaged)
    capsys.readouterr()
    output = ["-o", str(out)] if command in ("pack", "unpack") else []
    assert main([command, str(packed), *output]) == 1
    error = capsys.readouterr().err
    assert error == f"compression {command}: {packed}: its content does not match its digest: the file is damaged\n"
    assert not out.exists()


def test_a_file_that_is_not_packed_is_called_what_it_is(source, state, capsys):
    torch.save(state, source.with_name("old.pth"), _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, source.with_name("plain.st"))
    source.with_name("notes.txt").write_text("Weights of a model")
    for name, message in (
        (source.name, "no packed file, but one of torch.save, which `pack` reads"),
        ("old.pth", "no packed file, but one of torch.save, which `pack` reads"),
        ("plain.st", "metadata are [], not ['compression.packed'], so this is another program's file"),
        ("notes.txt", "no readable safetensors file: it does not begin with a header"),
    ):
        path = source.with_name(name)
        assert main(["unpack", str(path), "-o", str(source.with_name("out"))]) == 1
        assert capsys.readouterr().err == f"compression unpack: {path}: {message}\n"


def test_small_limits_are_errors(source, capsys):
    out = source.with_name("out")
    main(["pack", str(source), "-o", str(out)])
    capsys.readouterr()
    assert main(["inspect", str(out), "--limit", "1e-6"]) == 1
    assert "the limit is 1073" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["pack", "-o", "out"], ["unpack", "-o", "out"], ["inspect"], ["bench"]])
def test_a_pipe_is_no_file(source, capsys, monkeypatch, arguments):
    monkeypatch.chdir(source.parent)
    os.mkfifo("pipe")
    calls = [[*arguments, "pipe"], ["inspect", str(source), "--original", "pipe"]]
    for call in calls[: 2 if arguments == ["inspect"] else 1]:
        assert main(call) == 1
        assert capsys.readouterr().err.endswith("No regular file, which is needed: 'pipe'\n")


@pytest.mark.parametrize(
    ("lacks", "line"),
    [
        (["conv.weight", "steps"], "only in {}: 2 tensors, 4,616 bytes: conv.weight, steps\n"),
        (["conv.weight", "conv.bias", "steps"], "only in {}: 3 tensors, 4,680 bytes: conv.weight, conv.bias, steps\n"),
        ([], ""),
    ],
)
def test_inspect_names_what_only_the_original_has(source, state, capsys, lacks, line):
    small = source.with_name("small.pth")
    torch.save({name: tensor for name, tensor in state.items() if name not in lacks}, small)
    assert main(["inspect", str(small), "--original", str(source)]) == 0
    assert capsys.readouterr().out.partition("only in")[1:] == line.format(source).partition("only in")[1:]


def test_an_original_that_does_not_fit_is_an_error(source, capsys):
    other = source.with_name("other.safetensors")
    safetensors.torch.save_file({"conv.weight": torch.ones(2)}, other)
    assert main(["inspect", str(source), "--original", str(other)]) == 1
    assert "tensor 'conv.weight' has shape (16, 8, 3, 3); the original has (2,)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--no-entropy", "--bits", "3"],
        ["--no-entropy", "--method", "codebook", "--bits", "2"],
        ["--asymmetric", "--bits", "3"],
        ["--per-tensor"],
        ["--method", "codebook", "--bits", "2"],
    ],
)
def test_the_bytes_that_inspect_shows_are_those_of_the_file(source, capsys, options):
    packed = source.with_name("packed")
    main(["pack", str(source), "-o", str(packed), *options])
    capsys.readouterr()
    assert main(["inspect", str(packed)]) == 0
    sizes = [line.split()[-3] for line in capsys.readouterr().out.splitlines() if line.rstrip().endswith("%")]
    *rows, total = (int(size.replace(",", "")) for size in sizes)
    content = packed.read_bytes()
    assert sum(rows) == total == len(content) - 8 - int.from_bytes(content[:8], "little")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("__metadata__", "a tensor is called '__metadata__'"),
        ("layer.\ud800", r"tensor 'layer.\ud800' has half a surrogate pair in its name"),
    ],
)
def test_a_name_that_safetensors_can_not_have_is_refused(tmp_path, capsys, name, message):
    torch.save({name: torch.ones(2)}, tmp_path / "model.pth")
    assert main(["pack", str(tmp_path / "model.pth"), "-o", str(tmp_path / "packed")]) == 1
    assert f"model.pth: {message}" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
    entries, stored = encode_tensors({"model": torch.ones(2)})
    write(tmp_path / "foreign", {"version": VERSION, "tensors": [{**entries[0], "name": name}]}, stored)
    assert main(["unpack", str(tmp_path / "foreign"), "-o", str(tmp_path / "plain")]) == 1
    assert f"foreign: {message}" in capsys.readouterr().err
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize(
    ("tensor", "options", "message"),
    [
        (torch.tensor([1.0, float("nan")]), ["--method", "float16"], "not finite"),
        (torch.tensor([[1.0, float("inf")]]), [], "not finite"),
        (torch.tensor([1e5]), ["--method", "float16"], "'a' holds a value beyond 65504"),
    ],
)
def test_a_tensor_that_a_method_can_not_have_names_the_file_and_a_way_out(tmp_path, capsys, tensor, options, message):
    source, out = tmp_path / "model.pth", tmp_path / "out"
    torch.save({"a": tensor}, source)
    assert main(["pack", str(source), "-o", str(out), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"compression pack: {source}: 'a' holds")
    assert message in error
    assert error.endswith("; --method none keeps all tensors as they are\n")
    assert main(["pack", str(source), "-o", str(out), "--method", "none"]) == 0


@pytest.mark.parametrize(
    ("command", "dtype"), [("pack", torch.complex64), ("bench", torch.complex64), ("pack", torch.float8_e4m3fn)]
)
def test_a_type_that_no_file_holds_names_the_file(tmp_path, capsys, command, dtype):
    source = tmp_path / "model.pth"
    torch.save({"a": torch.ones(1).to(dtype)}, source)
    options = ["-o", str(tmp_path / "out"), "--method", "float16"] if command == "pack" else []
    assert main([command, str(source), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"compression {command}: {source}: tensor 'a' is ")
    assert "one of bool, uint8" in error
    assert not (tmp_path / "out").exists()


def test_bench_shows_a_reason_where_a_method_has_no_result(tmp_path, capsys):
    torch.save({"w": torch.randn(4, 4), "running_var": torch.tensor([1e5])}, tmp_path / "model.pth")
    assert main(["bench", str(tmp_path / "model.pth"), "--bits", "4"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["float16"].split()[2:5] == ["-", "-", "-"]
    assert "'running_var' holds a value beyond 65504" in rows["float16"]
    assert all("-" not in rows[name].split()[-3:] for name in ("bfloat16", "codebook", "affine,"))


@pytest.fixture
def calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"β": torch.ones(2, 2)}, "model.pth")
    return {"pack": ["pack", "model.pth", "-o", "ü.st"], "inspect": ["inspect", "model.pth"]}


@pytest.mark.parametrize(("command", "escaped"), [("pack", rb"\xfc.st: "), ("inspect", rb" \u03b2 ")])
def test_what_the_output_can_not_encode_is_escaped(calls, monkeypatch, command, escaped):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert main(calls[command]) == 0
    assert escaped in shown.getvalue()


@pytest.mark.parametrize(("command", "written"), [("pack", "; ü.st is written"), ("inspect", "")])
@pytest.mark.parametrize("buffering", [1, -1])
def test_an_output_that_is_full_is_an_error_of_its_own(calls, monkeypatch, capsys, command, written, buffering):
    with open("/dev/full", "w", buffering, encoding="utf-8") as full:  # noqa: PTH123 - as the interpreter does
        monkeypatch.setattr(sys, "stdout", full)
        assert main(calls[command]) == 1
    error = capsys.readouterr().err
    assert error == f"compression {command}: standard output: [Errno 28] No space left on device{written}\n"
    if written:
        assert read_packed("ü.st").keys() == {"β"}


@pytest.mark.parametrize("command", ["pack", "inspect"])
def test_without_an_output_nothing_is_said(calls, monkeypatch, command):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(calls[command]) == 0


def test_an_error_does_not_command_the_terminal(tmp_path, capsys):
    path = tmp_path / "a\x1b[2Jb"
    assert main(["inspect", str(path)]) == 1
    assert main(["pack", str(path), "-o", str(tmp_path / "out")]) == 1
    path.write_bytes(b"text")
    assert main(["inspect", str(path)]) == 1
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert error.count(r"a\x1b[2Jb") == 3


@pytest.mark.parametrize("link", ["itself", "symlink", "hardlink"])
def test_the_file_itself_is_no_output(source, capsys, link):
    output = source if link == "itself" else source.with_name("link")
    if link == "symlink":
        output.symlink_to(source)
    elif link == "hardlink":
        output.hardlink_to(source)
    before = source.read_bytes()
    for command in ("pack", "unpack"):
        with pytest.raises(SystemExit) as stopped:
            main([command, str(source), "-o", str(output)])
        assert stopped.value.code == 2
        assert f"-o/--output: {output} is FILE itself" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_a_file_may_be_called_as_standard_output_is(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert main(["pack", str(source), "-o", "./-"]) == 0
    assert read_packed("-")


def test_an_output_that_is_no_file_names_what_was_typed(source, capsys, monkeypatch):
    monkeypatch.chdir(source.parent)
    os.mkfifo("pipe")
    for output, message in ((".", "Is a directory: '.'"), ("pipe", "No regular file"), ("absent/out", "'absent/out'")):
        assert main(["pack", str(source), "-o", output]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert repr(output) in error
