from setuptools import find_packages, setup

PACKAGE = "exo_emg"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Muscle signals to calibrated envelopes",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["drivers/*/config.yaml", "drivers/*/README.md"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "emg_calibrator = exo_emg.nodes.emg_calibrator:main",
            "emg_driver = exo_emg.nodes.emg_driver:main",
            "emg_processor = exo_emg.nodes.emg_processor:main",
        ]
    },
)
