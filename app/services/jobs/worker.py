"""The subprocess of a job: commands of `python -m trim`, one after the other, out of the app's way.

    python -m app.services.jobs.worker END COMMANDS

END is the file that receives how it ended, {"code": …}; COMMANDS is JSON, a list of argument lists. It runs at low
priority and in a session of its own, so that neither a closed tab nor a restarted app ends it.
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

NICENESS = 10


def main(arguments: Sequence[str]) -> int:
    """Run the commands until one of them fails, and store the exit code of the last in END."""
    from trim import cli
    from trim.runs.json_files import write_json

    end, commands = Path(arguments[0]), json.loads(arguments[1])
    with contextlib.suppress(OSError, AttributeError):  # no such thing on Windows
        os.nice(NICENESS)
    code = 0
    for command in commands:
        try:
            code = _measure(command[1:]) if command[0] == "measure" else cli.main(command)
        except SystemExit as error:  # the parser has refused an argument and printed why
            code = int(error.code or 0)
        except Exception as error:
            traceback.print_exc()
            print(f"trim: {type(error).__name__}: {error}", file=sys.stderr)
            code = 1
        if code:
            break
    write_json(end, {"code": code})
    return code


def _measure(arguments: Sequence[str]) -> int:
    """Measure the perplexity of a run, and of its dense model."""
    from app.services.jobs.measure import measure
    from trim.errors import TrimError

    try:
        measure(Path(arguments[0]), windows=int(arguments[1]), length=int(arguments[2]))
    except TrimError as error:
        print(f"trim: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking the interpreter down with torch in it costs seconds, in which a cancelled job still runs.
    os._exit(ended)
