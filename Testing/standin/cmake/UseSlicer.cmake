# Copies scripts and resources under their relative paths, and installs them likewise.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(NOT MY_NAME OR NOT MY_SCRIPTS OR MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: ${ARGN}")
  endif()
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    if(IS_ABSOLUTE "${file}" OR file MATCHES "\\.\\.")
      message(FATAL_ERROR "${MY_NAME}: ${file} would not land in ${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
    endif()
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "${MY_NAME}: there is no ${file}")
    endif()
    get_filename_component(folder "${file}" DIRECTORY)
    install(
      FILES "${CMAKE_CURRENT_SOURCE_DIR}/${file}"
      DESTINATION "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${folder}"
      )
  endforeach()
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT" "" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: there is no ${MY_SCRIPT}")
  endif()
  get_filename_component(name "${MY_SCRIPT}" NAME_WE)
  add_test(NAME py_${name} COMMAND ${CMAKE_COMMAND} -E echo "needs Slicer: ${MY_SCRIPT}")
endfunction()

include(CTest)
