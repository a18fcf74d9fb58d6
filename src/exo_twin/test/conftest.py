import sys
from pathlib import Path

# Tests are imported one by one (importlib mode); this lets them share twin_fakes, and the benches' reference solutions.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks"))
