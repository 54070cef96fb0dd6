"""Property systems played over real HTTP, as strict as they document themselves."""
