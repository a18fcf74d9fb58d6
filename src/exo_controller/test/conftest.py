import sys
from pathlib import Path

# The made-up wearer of exo_twin's tests serves here too.
sys.path.insert(0, str(Path(__file__).parents[2] / "exo_twin" / "test"))
