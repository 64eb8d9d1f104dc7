"""Known vulnerabilities of everything that is installed here; exit code 1 where there is one (`make audit`).

Advisories come from the package registry, which may know none of a package (a build of torch's own) or have none at
all; how many packages were looked up is printed, since no finding means nothing for the others.
"""

import json
import subprocess
import sys

import typer


def main() -> None:
    """Ask pip-audit, and count what it could not tell."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--skip-editable", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        sys.exit(f"pip-audit did not answer: {done.stderr.strip()[-300:]}")
    packages = json.loads(done.stdout)["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    typer.echo(f"{len(packages) - len(unknown)} of {len(packages)} installed packages have advisories to look up")
    found = [(package["name"], package["version"], flaw) for package in packages for flaw in package.get("vulns", [])]
    for name, version, flaw in found:
        typer.echo(f"{name} {version}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
