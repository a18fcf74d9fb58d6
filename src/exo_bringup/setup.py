from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "exo_bringup"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Launch files, recording, replay, reports and the verbs of the exo command",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", [str(path) for path in Path("launch").iterdir()]),
        (f"share/{PACKAGE}/config", [str(path) for path in Path("config").iterdir()]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "recorder = exo_bringup.nodes.recorder:main",
            "player = exo_bringup.nodes.player:main",
            "robot_state_publisher = exo_bringup.nodes.robot_state_publisher:main",
            "view = exo_bringup.nodes.view:main",
        ]
    },
)
