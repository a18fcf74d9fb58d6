from setuptools import find_packages, setup

PACKAGE = "exo_twin"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="The wearer's neuro-musculoskeletal twin: inverse, forward, live",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "virtual_device = exo_twin.nodes.virtual_device:main",
            "estimator = exo_twin.nodes.estimator:main",
            "wearable_calibrator = exo_twin.nodes.wearable_calibrator:main",
        ]
    },
)
