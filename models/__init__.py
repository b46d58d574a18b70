"""How pixels become a video LLM's tokens, and how kept tokens go back into it. One file per family."""
