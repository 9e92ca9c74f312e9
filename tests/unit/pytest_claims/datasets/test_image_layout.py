import os
import shutil

import pytest
from image_files import add_image, class_folders, flat_folder, refusing

from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.datasets.image_layout import find_images


def names(files):
    return [file.name for file in files]


def labels(files):
    return [file.label for file in files]


def error_of(root):
    with pytest.raises(DatasetError) as error:
        find_images(root)
    assert str(root) in str(error.value)
    return str(error.value)


# Layouts, labels and order


def test_the_flat_layout_takes_labels_from_file_names_in_natural_order(tmp_path):
    shuffled = ["0_10.png", "10_1.png", "0_9.png", "0_2.png", *(f"{label}_0.png" for label in range(9, 0, -1))]
    folder = find_images(flat_folder(tmp_path / "food", shuffled, [f"{label}_0.png" for label in range(11)]))
    assert folder.classes == tuple(map(str, range(11)))
    ordered = ["0_2", "0_9", "0_10", *(f"{label}_0" for label in range(1, 10)), "10_1"]
    assert names(folder.training) == [f"training/{name}.png" for name in ordered]
    assert labels(folder.training) == [0, 0, 0, *range(1, 11)]
    assert names(folder.validation) == [f"validation/{label}_0.png" for label in range(11)]
    assert labels(folder.validation) == list(range(11))


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    files = [f"{label}_{number}.png" for label in range(2) for number in range(12)]
    root = flat_folder(tmp_path / "food", files)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            self.entries = scandir(path)

        def __enter__(self):
            return sorted(self.entries, key=lambda entry: entry.name, reverse=True)

        def __exit__(self, *error):
            self.entries.close()

    first = find_images(root)
    monkeypatch.setattr(os, "scandir", Reversed)
    assert find_images(root) == first


def test_class_names_come_from_classes_txt(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "classes.txt").write_bytes(b"\xef\xbb\xbfcr\xc3\xa8me \r\nsoup\r\n\r\n")
    assert find_images(root).classes == ("crème", "soup")


def test_class_folders_are_numbered_in_natural_order(tmp_path):
    root = class_folders(tmp_path / "food", ("class 10", "class 9", "apple"))
    add_image(root / "training" / "class 9" / "b.JPG")
    folder = find_images(root)
    assert folder.classes == ("apple", "class 9", "class 10")
    assert labels(folder.training) == [0, 1, 1, 2]
    assert names(folder.training)[2] == "training/class 9/b.JPG"
    assert labels(folder.validation) == [0, 1, 2]


@pytest.mark.parametrize("make", [flat_folder, class_folders])
def test_hidden_and_other_files_and_the_evaluation_split_are_ignored(tmp_path, make):
    root = make(tmp_path / "food")
    expected = find_images(root)
    folder = next((root / "training").rglob("*.png")).parent
    for name in (".DS_Store", "Thumbs.db", "._0_1.png", "notes.txt", "0_1.gif", "README"):
        (folder / name).write_bytes(b"not an image")
        (root / "training" / name).write_bytes(b"not an image")
    (root / "training" / ".thumbnails").mkdir()
    (root / "training" / "__MACOSX").mkdir()
    (root / "evaluation").mkdir()
    (root / "evaluation" / "0_0.jpg").write_bytes(b"not an image")
    assert find_images(root) == expected


def test_every_suffix_is_taken_whatever_its_case(tmp_path):
    files = ["0_0.jpg", "0_1.JPEG", "0_2.Png", "0_3.BMP", "0_4.webp", "0_5.JPG"]
    folder = find_images(flat_folder(tmp_path / "food", [*files, "1_0.png"]))
    assert names(folder.training) == [f"training/{name}" for name in [*files, "1_0.png"]]


# Folders that cannot be used


def test_a_missing_root_is_named(tmp_path):
    assert "No such file or directory; expected a folder of images" in error_of(tmp_path / "nothing")


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_missing_or_empty_split_is_named(tmp_path, split):
    root = flat_folder(tmp_path / "food")
    shutil.rmtree(root / split)
    assert f"{root / split}: No such file or directory; expected a readable folder" in error_of(root)
    (root / split).mkdir()
    (root / split / "notes.txt").touch()
    assert f"{root / split}: empty; expected <class>_<n>.jpg images or a folder" in error_of(root)
    (root / split / "notes.txt").unlink()
    (root / split).rmdir()
    (root / split).touch()
    assert f"{root / split}: Not a directory" in error_of(root)


def test_images_beside_class_folders_are_refused(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "training" / "soup").mkdir()
    assert "holds images (such as '0_0.png') beside folders (such as 'soup')" in error_of(root)


def test_splits_of_different_layout_are_refused(tmp_path):
    root = flat_folder(tmp_path / "food", validation=["cake/a.png", "soup/a.png"])
    assert "expected the same layout in both" in error_of(root)


def test_class_folders_of_one_split_only_are_listed(tmp_path):
    root = flat_folder(tmp_path / "food", ["cake/a.png", "soup/a.png"], ["cake/a.png", "stew/a.png"])
    message = error_of(root)
    assert "2 of its files or folders" in message
    assert "'training/soup': validation/ has no such class folder" in message
    assert "'validation/stew': training/ has no such class folder" in message


def test_a_folder_inside_a_class_folder_is_refused(tmp_path):
    root = class_folders(tmp_path / "food")
    (root / "validation" / "soup" / "more").mkdir()
    assert "'validation/soup/more': folder inside a class folder" in error_of(root)


def test_class_folders_without_images_are_refused(tmp_path):
    root = class_folders(tmp_path / "food", ("cake", "soup", "stew"))
    (root / "training" / "soup" / "a.png").unlink()
    assert error_of(root).endswith("no usable image of class 'soup'")
    add_image(root / "training" / "soup" / "a.png")
    for image in (root / "validation").rglob("*.png"):
        image.unlink()
    assert error_of(root).endswith("validation: no usable image of class 'cake', 'soup', 'stew'")


def test_a_class_folder_name_that_cannot_be_printed_is_refused(tmp_path):
    root = class_folders(tmp_path / "food", ("cake", "so\nup"))
    assert r"'so\nup' holds a control character" in error_of(root)


def test_file_names_without_a_class_are_listed(tmp_path):
    bad = ["cake_1.png", "_1.png", "-1_0.png", "1.png", "1.5_0.png", "1234567890_0.png"]
    message = error_of(flat_folder(tmp_path / "food", ["0_0.png", *bad], ["0_0.png"]))
    for name in bad:
        assert f"'training/{name}': no class in its name; expected <class>_<n>, such as 3_17.jpg" in message
    assert "'training/0_0.png'" not in message


def test_labels_that_classes_txt_does_not_name_are_listed(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "1_0.png", "2_0.png"], ["0_0.png", "7_0.png"])
    (root / "classes.txt").write_text("cake\nsoup\n")
    message = error_of(root)
    assert "'training/2_0.png': its label 2 does not occur in classes.txt, which names 2 classes" in message
    assert "'validation/7_0.png': its label 7" in message


def test_validation_labels_unknown_in_training_are_listed(tmp_path):
    root = flat_folder(tmp_path / "food", validation=["1_0.png", "2_0.png"])
    assert "'validation/2_0.png': its label 2 does not occur in training/" in error_of(root)


def test_the_files_whose_label_leaves_a_gap_are_listed(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "1_0.png", "3_0.png", "999999999_0.png"], ["0_0.png", "1_0.png"])
    message = error_of(root)
    assert "'training/3_0.png': its label 3 leaves class 2 without a training image" in message
    assert "'training/999999999_0.png': its label 999999999 leaves class 2" in message
    assert "'training/1_0.png'" not in message


def test_a_class_that_only_trains_is_refused(tmp_path):
    root = flat_folder(tmp_path / "food", validation=["1_0.png"])
    assert error_of(root).endswith("validation: no usable image of class '0'")


@pytest.mark.parametrize(("make", "name"), [(flat_folder, "0_0.png"), (class_folders, "cake")])
def test_one_class_alone_is_refused(tmp_path, make, name):
    root = make(tmp_path / "food", [name], [name]) if make is flat_folder else make(tmp_path / "food", [name])
    assert "images of one class" in error_of(root)


def test_a_named_class_without_training_images_is_refused(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "classes.txt").write_text("cake\nsoup\nstew\n")
    assert error_of(root).endswith("no usable image of class 'stew'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cake\n\nsoup\n", "'' is blank"),
        (b"cake\ncake\n", "'cake' occurs twice"),
        (b"\n", "no classes"),
        (b"cake\nsoup\xff\n", "can't decode byte 0xff"),
    ],
)
def test_a_bad_classes_txt_is_named(tmp_path, content, message):
    root = flat_folder(tmp_path / "food")
    (root / "classes.txt").write_bytes(content)
    assert message in error_of(root)
    assert str(root / "classes.txt") in error_of(root)


def test_links_out_of_the_folder_are_refused(tmp_path):
    root = flat_folder(tmp_path / "food")
    add_image(tmp_path / "secret.png")
    (root / "training" / "0_1.png").symlink_to(tmp_path / "secret.png")
    (root / "training" / "0_2.png").symlink_to("../../secret.png")
    (root / "training" / "0_3.png").symlink_to("missing.png")
    (root / "training" / "0_4.png").symlink_to("0_4.png")
    message = error_of(root)
    outside = f"symbolic link to {str(tmp_path / 'secret.png')!r}, outside the image folder"
    assert f"'training/0_1.png': {outside}" in message
    assert f"'training/0_2.png': {outside}" in message
    assert "'training/0_3.png': symbolic link that leads nowhere" in message
    assert "'training/0_4.png': symbolic link that leads nowhere" in message


@pytest.mark.parametrize("name", ["training", "validation/soup", "classes.txt"])
def test_folders_and_classes_linked_from_outside_are_refused(tmp_path, name):
    root = flat_folder(tmp_path / "food") if name == "classes.txt" else class_folders(tmp_path / "food")
    (root / "classes.txt").write_text("cake\nsoup\n")
    (root / name).rename(tmp_path / "elsewhere")
    (root / name).symlink_to(tmp_path / "elsewhere")
    message = error_of(root)
    assert f"{root / name}: symbolic link to {str(tmp_path / 'elsewhere')!r}, outside" in message


def test_links_inside_the_folder_and_to_the_folder_are_followed(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "training" / "1_1.png").symlink_to("../validation/0_0.png")
    (tmp_path / "link").symlink_to(root)
    folder = find_images(tmp_path / "link")
    assert folder == find_images(root)
    assert folder.root == root.resolve()
    linked = folder.training[2]
    assert (linked.name, linked.label) == ("training/1_1.png", 1)
    assert linked.status.st_ino == (root / "validation" / "0_0.png").stat().st_ino


def test_a_pipe_is_refused_not_waited_for(tmp_path):
    root = flat_folder(tmp_path / "food")
    os.mkfifo(root / "training" / "0_1.png")
    assert "'training/0_1.png': not a regular file" in error_of(root)


def test_unreadable_folders_are_named(tmp_path, monkeypatch):
    root = flat_folder(tmp_path / "food")
    (root / "training").chmod(0)
    if os.access(root / "training", os.R_OK):  # the superuser may read anything
        monkeypatch.setattr(os, "scandir", refusing(os.scandir, root / "training"))
    message = error_of(root)
    (root / "training").chmod(0o700)
    assert f"{root / 'training'}: Permission denied; expected a readable folder" in message
