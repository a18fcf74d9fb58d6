import sys
from pathlib import Path

# Tests are imported one by one (importlib mode); this lets them share live_fakes.
sys.path.insert(0, str(Path(__file__).parent))
