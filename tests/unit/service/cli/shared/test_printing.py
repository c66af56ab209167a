"""Names of the files of a run."""

from textcam_service.cli.shared.printing import ResultFolders


def test_images_whose_files_would_have_one_name_all_keep_theirs():
    folders = ResultFolders(None, None)
    names = [folders.free_name(stem) for stem in ("a", "a", "a-contours", "b-contours", "b")]
    assert names == ["a", "a-2", "a-contours-2", "b-contours", "b-2"]
