"""What `make release` checks and tags: one version in the package, the changelog, and the citation; and a
public address in pyproject.toml, which has none as long as the project has none.

python dev/release.py --check
python dev/release.py --tag
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version(root: Path = ROOT) -> str:
    """The version in ``src/codestill/version.py``, the only place that sets it."""
    text = (root / "src" / "codestill" / "version.py").read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return found


def problems(root: Path = ROOT) -> list[str]:
    """Why this version cannot be released; empty when it can."""
    number = version(root)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    reasons = []
    if not re.search(rf"^## {re.escape(number)} \(\d{{4}}-\d{{2}}-\d{{2}}\)$", changelog, re.MULTILINE):
        reasons.append(f"CHANGELOG.md has no heading `## {number} (YYYY-MM-DD)`.")
    if not re.search(rf'^version: "?{re.escape(number)}"?$', citation, re.MULTILINE):
        reasons.append(f"CITATION.cff does not name version {number}.")
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    if "Repository" not in settings["project"].get("urls", {}):
        reasons.append("pyproject.toml has no [project.urls] with a Repository: name the public address.")
    return reasons


def git(*arguments: str) -> str:
    """What a git command prints. Raises CalledProcessError when it fails."""
    done = subprocess.run(("git", *arguments), cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    if arguments not in (["--check"], ["--tag"]):
        print(__doc__, file=sys.stderr)
        return 2
    reasons = problems()
    if git("status", "--porcelain"):
        reasons.append("the working tree has changes: commit them first.")
    if git("tag", "--list", f"v{version()}"):
        reasons.append(f"the tag v{version()} exists: set a new __version__.")
    for reason in reasons:
        print(f"release: {reason}", file=sys.stderr)
    if reasons:
        return 2
    if arguments == ["--tag"]:
        git("tag", "--annotate", f"v{version()}", "--message", f"codestill {version()}")
        print(f"tagged v{version()}; push it with: git push origin v{version()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
