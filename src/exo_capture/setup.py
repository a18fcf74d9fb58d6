from setuptools import find_packages, setup

PACKAGE = "exo_capture"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Pixels to keypoints with quality",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["marker_sets/*.yaml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={"console_scripts": ["capture = exo_capture.nodes.capture:main"]},
)
