"""What pages are made of: intervals, numbers and tables, the same on the leaderboard, in a comparison and in a study."""
