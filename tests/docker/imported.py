"""Run in a virtual environment: fails if it cannot import a module, or has taken anything from outside.

imported.py MODULE...
"""

import importlib
import os
import sys
import sysconfig

complaints = []
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
    except ImportError as error:
        complaints.append(f"{module}: {error}")

code = os.environ["PYTHONPATH"].split(os.pathsep)
standard = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
for name, module in list(sys.modules.items()):
    file = getattr(module, "__dict__", {}).get("__file__") or sys.prefix
    own = file.startswith((*code, *standard)) and "-packages" not in file
    if not own and not file.startswith(sys.prefix) and file != __file__:
        complaints.append(f"{name}: from {file}")
sys.exit("\n".join(complaints) or 0)
