"""What runs in a worker: another program that shares memory with its master. It imports
neither the core nor the master.
"""
