"""Files that survive a kill and notice damage.

``serialize`` writes records as canonical JSON and reads them back; ``seal`` is their checksum;
``strict_yaml`` reads configs; ``run_files`` reads a run directory and says what to do where one of its files
is damaged.
"""
