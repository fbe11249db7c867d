"""The filter language: built with Python operators, written as text, parsed, matched, explained."""
