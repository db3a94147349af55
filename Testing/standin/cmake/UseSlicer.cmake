# As in Slicer, files are put into the build tree under their relative paths, and from there the
# folder is installed whole; Slicer copies when it builds, here configuring does it.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(NOT MY_NAME OR NOT MY_SCRIPTS OR MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: ${ARGN}")
  endif()
  set(modules "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    if(IS_ABSOLUTE "${file}" OR file MATCHES "\\.\\.")
      message(FATAL_ERROR "${MY_NAME}: ${file} would not land in ${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
    endif()
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "${MY_NAME}: there is no ${file}")
    endif()
    configure_file("${file}" "${modules}/${file}" COPYONLY)
  endforeach()
  install(DIRECTORY "${modules}/" DESTINATION "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
endfunction()

# Slicer's launcher gets the build tree's modules and has unittest run the script; here that is what
# Slicer_LAUNCHER_EXECUTABLE names.
function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT" "" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: there is no ${MY_SCRIPT}")
  endif()
  get_filename_component(name "${MY_SCRIPT}" NAME_WE)
  add_test(
    NAME py_${name}
    COMMAND ${Slicer_LAUNCHER_EXECUTABLE} "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}" ${name}
    )
endfunction()

include(CTest)
