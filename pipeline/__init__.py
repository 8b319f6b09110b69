"""The data's path: datasets, views, models and losses, and the stages that compose them."""
