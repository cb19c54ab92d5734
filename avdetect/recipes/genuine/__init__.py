"""The table "what it must show" of the recipe `genuine_only`, part by part; `genuine_report` runs it."""
