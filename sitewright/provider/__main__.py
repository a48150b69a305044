from sitewright.provider.server import main

main()
