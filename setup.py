"""Maps the rooms at the top of the repository into the import namespace `mindgeex`."""

from setuptools import setup

ROOMS = ["common", "model_zoo", "data", "train", "eval", "hccl_configs", "cli"]


def room_packages() -> dict[str, str]:
    """Import name -> folder, for every room and the packages below it."""
    from setuptools import find_packages

    folders = {f"mindgeex.{room}": room for room in ROOMS}
    for room in ROOMS:
        for package in find_packages(room):
            folders[f"mindgeex.{room}.{package}"] = f"{room}/{package.replace('.', '/')}"
    return folders


PACKAGES = room_packages()
SUFFIXES = ("yaml", "md", "css", "jsonl", "go", "rs", "java", "h", "cc", "sh")
"""Of the files of a room that are no Python."""

setup(
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={"": [f"**/*.{suffix}" for suffix in SUFFIXES]},
)
