"""The documentation site: `make docs`. It needs no network; every warning is an error."""

import os
import sys
from pathlib import Path

from genekb import __version__

sys.path.append(str(Path(__file__).parent / "_ext"))

COMMANDS = str(Path(sys.executable).parent)  # where the tutorials find genekb and cellmodel
os.environ["PATH"] = os.pathsep.join([COMMANDS, os.environ["PATH"]])
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # the tutorials need no widgets

project = "genekb and cellmodel"
author = "The genekb and cellmodel developers"
copyright = author
version = release = __version__

extensions = [
    "commands",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_templates", "changelog.d"]
templates_path = ["_templates"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_rtype = False
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # a tutorial is run again when its cells have changed, and always in a new checkout
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_output_stderr = "remove"  # progress, and notes with paths of this machine

# Errors of both packages share names, such as NotAvailable; a reference in the docs is to the first.
suppress_warnings = ["ref.python"]

html_theme = "sphinx_book_theme"
html_title = "genekb and cellmodel"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "navbar_persistent": []}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
smartquotes = False  # --option stays as it is
