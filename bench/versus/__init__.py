"""fastcnn beside other frameworks, on the same networks: `python -m bench.versus --help`."""
