from setuptools import find_packages, setup

PACKAGE = "exo_controller"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="From intent to assistance: the policy",
    license="Apache-2.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={"console_scripts": ["policy = exo_controller.nodes.policy:main"]},
)
