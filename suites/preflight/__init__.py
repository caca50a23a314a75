"""The first phase in every environment: is it what its name says, and what does it have?"""
