"""What mkdocs does beside its config. No front matter in the pages: code hosts show it as a table."""


def on_page_markdown(markdown, page, **_):
    """Pages with wide tables have no table of contents beside them."""
    if page.url.startswith(("results/", "methods/")):
        page.meta["hide"] = ["toc"]
    return markdown
