"""Settings of the documents as a site: `make docs`."""

from importlib.metadata import version as version_of

project = "Tallymesh"
author = "the Tallymesh authors"
version = release = version_of("tallymesh-client")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"Tallymesh {release}"
exclude_patterns = ["*.svg"]
myst_heading_anchors = 3
# Documents also point at files of the repository, which are no pages of the site.
# Its pictures are drawn by who shows the repository; here their source stands.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
