"""What experiments/simulated.py does with answers of pac that are none: a made-up pac says them. Usage: simulated.py ROOT"""

import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(sys.argv[1]) / "experiments"))
import simulated as s  # noqa: E402

failed = 0


def ends(what, call, *args, **keys):
    """The call must end the program, and its message must name `what`."""
    global failed
    try:
        call(*args, **keys)
        print(f"goes on where '{what}' was said")
        failed += 1
    except SystemExit as end:
        if what not in str(end.code):
            print(f"says '{end.code}' instead of '{what}'")
            failed += 1


def same(found, wanted):
    global failed
    if found != wanted:
        print(f"{found} instead of {wanted}")
        failed += 1


with tempfile.TemporaryDirectory() as folder:
    program = pathlib.Path(folder) / "pac"
    os.environ["PAC"] = str(program)

    def says(status, answer, error):
        program.write_text(f"#!/bin/sh\necho '{answer}'\necho 'pac: error: {error}' >&2\nexit {status}\n", encoding="utf-8")
        program.chmod(0o755)

    says(4, '{"fits": false}', "memory: too little")
    same(s.pac("simulate", misfit=True), {"fits": False})
    ends("too little", s.pac, "simulate")
    says(4, "", "memory: too little")
    same(s.pac("plan", misfit=True), None)
    s.PROFILES["t5-base", "full", 8] = "none"
    ends("no answer", s.simulate, "t5-base", "full", "plan.yaml", 100)
    says(4, '{"fits": false}', "disk space: too little")
    ends("disk space", s.pac, "simulate", misfit=True)
    says(3, "{}", "configuration: memory: what")
    ends("configuration", s.pac, "simulate", misfit=True)

same(s.changed("count: 8 x", "count: 8", "count: 2", "file"), "count: 2 x")
ends("no 'count: 8'", s.changed, "count: 9", "count: 8", "count: 2", "file")
sys.exit(failed > 0)
