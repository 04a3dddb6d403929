"""python -m tap_circleci is the same as tap-circleci."""

from tap_circleci import main

if __name__ == "__main__":
    main()
