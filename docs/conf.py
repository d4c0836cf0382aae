"""Sphinx configuration of the documentation site; built by scripts/docs."""

from stillsun import __version__

project = "stillsun"
author = "the stillsun developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # equations on machines without network too
]
myst_enable_extensions = ["dollarmath"]
# Headings are link targets, spelled as GitHub spells them.
myst_heading_anchors = 4
exclude_patterns = ["_build"]
highlight_language = "text"
default_role = "py:obj"

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"stillsun {release}"
html_show_copyright = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
