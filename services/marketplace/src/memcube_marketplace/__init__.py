"""The marketplace room: shares memories as signed packs."""
