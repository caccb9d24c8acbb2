"""The JSON API, over a real socket."""
