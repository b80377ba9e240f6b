"""What `undercroft demo` shows: an app (`app`), the world it acts on (`world`), and the story."""
