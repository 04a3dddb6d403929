"""Looking at CircleCI without a sync: `--check` tells what the token and the config give, `--get` shows an answer."""
