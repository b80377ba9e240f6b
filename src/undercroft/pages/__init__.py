"""Documents: self-contained HTML pages that open from disk, with no network and no script."""
